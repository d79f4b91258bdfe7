;; Returns a text of 1 MiB of bytes that JSON writes as six characters each.
(module
  (memory (export "memory") 20)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (memory.fill (i32.const 64) (i32.const 1) (i32.const 1048576))
    (i32.store (i32.const 20) (i32.const 64))
    (i32.store (i32.const 24) (i32.const 1048576))
    i32.const 16))
