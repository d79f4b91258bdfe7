;; Grows a table by a thousand elements at a time, for ever.
(module
  (table $t 0 funcref)
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $again))
    unreachable))
