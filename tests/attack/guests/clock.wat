;; Asks for the time, for ever.
(module
  (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again (drop (call $now)) (br $again))
    unreachable))
