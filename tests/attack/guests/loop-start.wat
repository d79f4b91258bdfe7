;; Loops before it is even instantiated, in its start function.
(module
  (func $forever (loop $again (br $again)))
  (start $forever)
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    unreachable))
