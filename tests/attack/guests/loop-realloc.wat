;; Loops when the host asks for room for the input.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (loop $again (br $again)) unreachable)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32) unreachable))
