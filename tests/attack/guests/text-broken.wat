;; Returns bytes that are not UTF-8.
(module
  (data (i32.const 64) "ok\ff\fe\ed\a0\80")
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (i32.store (i32.const 20) (i32.const 64))
    (i32.store (i32.const 24) (i32.const 7))
    i32.const 16))
