;; Returns a list of four million bytes, which JSON writes one by one.
(module
  (memory (export "memory") 70)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:bytes/task@0.1.0#run") (param i32 i32) (result i32)
    (i32.store (i32.const 16) (i32.const 1024))
    (i32.store (i32.const 20) (i32.const 4194304))
    i32.const 16))
