;; Returns half a surrogate pair, with its encoding latin1+utf16.
(module
  (data (i32.const 64) "a\00\00\d8b\00")
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (i32.store (i32.const 20) (i32.const 64))
    (i32.store (i32.const 24) (i32.const 0x80000003))
    i32.const 16))
