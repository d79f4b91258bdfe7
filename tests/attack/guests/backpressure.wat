;; Counts its back-pressure up and down, for ever.
(module
  (import "$root" "[backpressure-inc]" (func $inc))
  (import "$root" "[backpressure-dec]" (func $dec))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again (call $inc) (call $dec) (br $again))
    unreachable))
