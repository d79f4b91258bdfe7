;; Measures how long a hundred million turns of a loop take, and crashes if it is any time at all.
(module
  (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (local $start i64) (local $n i32)
    (local.set $start (call $now))
    (loop $again (br_if $again (i32.ne (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 100000000))))
    (if (i64.ne (call $now) (local.get $start)) (then unreachable))
    i32.const 16))
