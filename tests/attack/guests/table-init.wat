;; Initializes a table from a segment of functions in each turn of a loop.
(module
  (table $t 1000 funcref)
  (elem $e func $f)
  (func $f)
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again
      (table.init $t $e (i32.const 7) (i32.const 0) (i32.const 1))
      (br $again))
    unreachable))
