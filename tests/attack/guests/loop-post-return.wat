;; Returns an empty text and loops when the host lets it clean up.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32) i32.const 16)
  (func (export "cabi_post_attack:guest/task@0.1.0#run") (param i32) (loop $again (br $again))))
