;; Starts a sub-task after the other and waits for none.
(module
  (import "attack:neighbour/task@0.1.0" "[async-lower]run" (func $start (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "x")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again (drop (call $start (i32.const 64) (i32.const 1) (i32.const 16))) (br $again))
    unreachable))
