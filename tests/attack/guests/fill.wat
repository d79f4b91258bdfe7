;; Fills 60 MiB, eight times in each turn of a loop.
(module
  (memory (export "memory") 960)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again
      (memory.fill (i32.const 0) (i32.const 1) (i32.const 62914560))
      (memory.fill (i32.const 0) (i32.const 2) (i32.const 62914560))
      (memory.fill (i32.const 0) (i32.const 3) (i32.const 62914560))
      (memory.fill (i32.const 0) (i32.const 4) (i32.const 62914560))
      (memory.fill (i32.const 0) (i32.const 5) (i32.const 62914560))
      (memory.fill (i32.const 0) (i32.const 6) (i32.const 62914560))
      (memory.fill (i32.const 0) (i32.const 7) (i32.const 62914560))
      (memory.fill (i32.const 0) (i32.const 8) (i32.const 62914560))
      (br $again))
    unreachable))
