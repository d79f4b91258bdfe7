;; Makes timers, waits for each and drops it, for ever.
(module
  (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
  (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:io/poll@0.2.0" "[resource-drop]pollable" (func $drop (param i32)))
  (global $timer (mut i32) (i32.const 0))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again 
      (global.set $timer (call $subscribe (i64.const 7)))
      (call $block (global.get $timer))
      (call $drop (global.get $timer)) (br $again))
    unreachable))
