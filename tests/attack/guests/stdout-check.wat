;; Asks how much it may write, for ever.
(module
  (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $get (result i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.check-write" (func $write (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (local $out i32)
    (local.set $out (call $get))
    (loop $again (call $write (local.get $out) (i32.const 16)) (br $again))
    unreachable))
