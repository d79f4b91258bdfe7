;; Fills a table of 19,999 elements in each turn of a loop.
(module
  (table $t 19999 funcref)
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again
      (table.fill $t (i32.const 0) (ref.null func) (i32.const 19999))
      (br $again))
    unreachable))
