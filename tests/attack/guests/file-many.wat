;; Creates an empty file after the other in its directory until it is refused, and fails with an empty text.
(module
  (import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $dirs (param i32)))
  (import "wasi:filesystem/types@0.2.0" "[method]descriptor.open-at" (func $open (param i32 i32 i32 i32 i32 i32 i32)))
  (import "wasi:filesystem/types@0.2.0" "[resource-drop]descriptor" (func $close (param i32)))
  (memory (export "memory") 1)
  (global $free (mut i32) (i32.const 1024))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.get $free)
    (global.set $free (i32.and (i32.add (i32.add (global.get $free) (local.get 3)) (i32.const 15)) (i32.const -16))))
  (func (export "attack:files/task@0.1.0#run") (param i32 i32) (result i32)
    (local $n i32)
    (call $dirs (i32.const 16))
    (loop $again
      ;; Eight letters that count.
      (i32.store (i32.const 64) (i32.add (i32.const 0x61616161) (i32.and (local.get $n) (i32.const 0x0f0f0f0f))))
      (i32.store (i32.const 68) (i32.add (i32.const 0x61616161) (i32.and (i32.shr_u (local.get $n) (i32.const 4)) (i32.const 0x0f0f0f0f))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (call $open (i32.load (i32.load (i32.const 16))) (i32.const 0) (i32.const 64) (i32.const 8) (i32.const 1) (i32.const 2) (i32.const 32))
      (if (i32.eqz (i32.load8_u (i32.const 32)))
        (then (call $close (i32.load (i32.const 36))) (br $again))))
    (i32.store (i32.const 80) (i32.const 1))
    (i32.store (i32.const 88) (i32.const 0))
    i32.const 80))
