;; Opens stdout and keeps it, until it is refused one.
(module
  (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $get (result i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again (drop (call $get)) (br $again))
    unreachable))
