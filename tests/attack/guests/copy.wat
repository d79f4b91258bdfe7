;; Copies 30 MiB in each turn of a loop.
(module
  (memory (export "memory") 960)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again
      (memory.copy (i32.const 0) (i32.const 31457280) (i32.const 31457280))
      (br $again))
    unreachable))
