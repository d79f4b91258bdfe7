;; Asks for 64 KiB of insecure random bytes, for ever.
(module
  (import "wasi:random/insecure@0.2.0" "get-insecure-random-bytes" (func $get (param i64 i32)))
  (memory (export "memory") 4)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again (call $get (i64.const 65536) (i32.const 16)) (br $again))
    unreachable))
