;; Writes documents of 64 KiB until one is refused, then tiny ones, and fails with an empty text.
(module
  (import "agenthost:plugin/memory@0.1.0" "put" (func $put (param i32 i32 i32 i32 i32)))
  (memory (export "memory") 3)
  (global $free (mut i32) (i32.const 131072))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.get $free)
    (global.set $free (i32.and (i32.add (i32.add (global.get $free) (local.get 3)) (i32.const 15)) (i32.const -16))))
  (func $fill (param $bytes i32)
    (local $n i32)
    (loop $again
      ;; Eight letters that count.
      (i32.store (i32.const 64) (i32.add (i32.const 0x61616161) (i32.and (local.get $n) (i32.const 0x0f0f0f0f))))
      (i32.store (i32.const 68) (i32.add (i32.const 0x61616161) (i32.and (i32.shr_u (local.get $n) (i32.const 4)) (i32.const 0x0f0f0f0f))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (call $put (i32.const 64) (i32.const 8) (i32.const 1024) (local.get $bytes) (i32.const 32))
      (global.set $free (i32.const 131072))
      (br_if $again (i32.eqz (i32.load8_u (i32.const 32))))))
  (func (export "attack:memory/task@0.1.0#run") (param i32 i32) (result i32)
    ;; Digits: a number.
    (memory.fill (i32.const 1024) (i32.const 0x31) (i32.const 65536))
    (call $fill (i32.const 65536))
    (call $fill (i32.const 1))
    (i32.store (i32.const 80) (i32.const 1))
    (i32.store (i32.const 88) (i32.const 0))
    i32.const 80))
