;; Has the host write 64 KiB of zeroes to its stdout, for ever.
(module
  (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $get (result i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.write-zeroes" (func $write (param i32 i64 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (local $out i32)
    (local.set $out (call $get))
    (loop $again (call $write (local.get $out) (i64.const 65536) (i32.const 16)) (br $again))
    unreachable))
