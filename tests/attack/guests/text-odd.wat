;; Returns UTF-16 at an odd address, with its encoding latin1+utf16.
(module
  (data (i32.const 65) "a\00b\00")
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (i32.store (i32.const 20) (i32.const 65))
    (i32.store (i32.const 24) (i32.const 0x80000002))
    i32.const 16))
