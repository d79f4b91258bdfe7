;; Interprets its input: a letter for each step, and digits behind it, a character from `0` on for a value from 0 on.
;;
;;   c LABEL SIZE MODEL SCHEMA MOST   starts a model call
;;   n HIGH LOW PROGRAM               starts a sub-task with the program of 64 * HIGH + LOW bytes
;;   d N                              drops the call or sub-task number N, if it is open
;;   w                                waits for any of those that are open
;;   a                                waits for all of them
;;
;; At the end it returns, whatever is open.
(module
  (import "agenthost:plugin/llm@0.1.0" "[async-lower]complete" (func $complete (param i32 i32) (result i32)))
  (import "$root" "[waitable-set-new]" (func $set-new (result i32)))
  (import "$root" "[waitable-join]" (func $join (param i32 i32)))
  (import "$root" "[waitable-set-wait]" (func $set-wait (param i32 i32) (result i32)))
  (import "$root" "[subtask-cancel]" (func $cancel (param i32) (result i32)))
  (import "$root" "[subtask-drop]" (func $drop (param i32)))
  (import "bill:below/task@0.1.0" "[async-lower]run" (func $start (param i32 i32 i32) (result i32)))
  (memory (export "memory") 40)
  (global $free (mut i32) (i32.const 16384))
  (global $set (mut i32) (i32.const 0))
  (global $open (mut i32) (i32.const 0))
  (global $started (mut i32) (i32.const 0))
  (data (i32.const 64) "fast")
  (data (i32.const 80) "strong")
  (data (i32.const 96) "timer")
  ;; The models' names: address and length.
  (data (i32.const 128) "\40\00\00\00\04\00\00\00" "\50\00\00\00\06\00\00\00" "\60\00\00\00\05\00\00\00")
  (data (i32.const 192) "{\22type\22:\22object\22,\22properties\22:{\22n\22:{\22type\22:\22integer\22}},\22required\22:[\22n\22],\22additionalProperties\22:false}")
  ;; The text of prompts, which is doubled until it is long enough.
  (data (i32.const 4096) "The host reserves the worst case of a request, zQxJ 4711 \c3\a4\c3\b6\c3\bc, and books what its provider has counted: {\22n\22: [1, 2.5, null]} ")
  ;; The handles of what was started are at 1024.
  (func $alloc (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (global.get $free)
    (global.set $free (i32.and (i32.add (i32.add (global.get $free) (local.get $size)) (i32.const 15)) (i32.const -16))))
  (func $new (param $size i32) (result i32)
    (call $alloc (i32.const 0) (i32.const 0) (i32.const 0) (local.get $size)))
  (func $digit (param $at i32) (result i32)
    (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
  (func $slot (param $n i32) (result i32)
    (i32.add (i32.const 1024) (i32.mul (local.get $n) (i32.const 4))))
  ;; Remembers what was started, if it is not done already.
  (func $opened (param $state i32)
    (if (i32.ne (i32.and (local.get $state) (i32.const 15)) (i32.const 2))
      (then
        (i32.store (call $slot (global.get $started)) (i32.shr_u (local.get $state) (i32.const 4)))
        (call $join (i32.shr_u (local.get $state) (i32.const 4)) (global.get $set))
        (global.set $open (i32.add (global.get $open) (i32.const 1)))))
    (global.set $started (i32.add (global.get $started) (i32.const 1))))
  ;; Forgets the handle in this slot.
  (func $close (param $slot i32)
    (call $drop (i32.load (local.get $slot)))
    (i32.store (local.get $slot) (i32.const 0))
    (global.set $open (i32.sub (global.get $open) (i32.const 1))))
  (func $call (param $at i32)
    (local $request i32) (local $part i32) (local $text i32) (local $size i32)
    (local.set $size (i32.add (i32.mul (call $digit (i32.add (local.get $at) (i32.const 2))) (i32.const 32)) (i32.const 1)))
    (local.set $text (call $new (local.get $size)))
    (memory.copy (local.get $text) (i32.const 4096) (local.get $size))
    (i32.store8 (local.get $text) (i32.load8_u (i32.add (local.get $at) (i32.const 1))))
    (local.set $part (call $new (i32.const 32)))
    (i32.store offset=4 (local.get $part) (local.get $text))
    (i32.store offset=8 (local.get $part) (local.get $size))
    (local.set $request (call $new (i32.const 96)))
    ;; The message stands behind the request.
    (i32.store offset=68 (local.get $request) (local.get $part))
    (i32.store offset=72 (local.get $request) (i32.const 1))
    (i64.store align=4 (local.get $request)
      (i64.load align=4
        (i32.add (i32.const 128) (i32.mul (call $digit (i32.add (local.get $at) (i32.const 3))) (i32.const 8)))))
    (i32.store offset=20 (local.get $request) (i32.add (local.get $request) (i32.const 64)))
    (i32.store offset=24 (local.get $request) (i32.const 1))
    (i32.store offset=28 (local.get $request) (i32.const 1))
    (i32.store offset=32 (local.get $request)
      (i32.add (i32.mul (call $digit (i32.add (local.get $at) (i32.const 5))) (i32.const 20)) (i32.const 1)))
    (i32.store offset=36 (local.get $request) (call $digit (i32.add (local.get $at) (i32.const 4))))
    (i32.store offset=40 (local.get $request) (i32.const 192))
    (i32.store offset=44 (local.get $request) (i32.const 101))
    (call $opened (call $complete (local.get $request) (call $new (i32.const 256)))))
  (func $dropped (param $n i32)
    (local $slot i32)
    (if (i32.eqz (global.get $started)) (then (return)))
    (local.set $slot (call $slot (i32.rem_u (local.get $n) (global.get $started))))
    (if (i32.eqz (i32.load (local.get $slot))) (then (return)))
    (call $join (i32.load (local.get $slot)) (i32.const 0))
    (drop (call $cancel (i32.load (local.get $slot))))
    (call $close (local.get $slot)))
  (func $wait
    (local $slot i32)
    (if (i32.eqz (global.get $open)) (then (return)))
    (loop $next
      (drop (call $set-wait (global.get $set) (i32.const 32)))
      ;; It is done when its state is `returned`.
      (br_if $next (i32.ne (i32.load (i32.const 36)) (i32.const 2))))
    (local.set $slot (i32.const 1024))
    (loop $find
      (if (i32.ne (i32.load (local.get $slot)) (i32.load (i32.const 32)))
        (then
          (local.set $slot (i32.add (local.get $slot) (i32.const 4)))
          (br $find))))
    (call $join (i32.load (local.get $slot)) (i32.const 0))
    (call $close (local.get $slot)))
  (func (export "bill:root/task@0.1.0#run") (param $at i32) (param $left i32) (result i32)
    (local $end i32) (local $step i32) (local $size i32)
    (local.set $end (i32.add (local.get $at) (local.get $left)))
    (global.set $set (call $set-new))
    (local.set $size (i32.const 128))
    (loop $double
      (memory.copy (i32.add (i32.const 4096) (local.get $size)) (i32.const 4096) (local.get $size))
      (local.set $size (i32.mul (local.get $size) (i32.const 2)))
      (br_if $double (i32.lt_u (local.get $size) (i32.const 4096))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $step (i32.load8_u (local.get $at)))
        (if (i32.eq (local.get $step) (i32.const 99)) ;; c
          (then (call $call (local.get $at)) (local.set $at (i32.add (local.get $at) (i32.const 6))) (br $next)))
        (if (i32.eq (local.get $step) (i32.const 110)) ;; n
          (then
            (local.set $size
              (i32.add
                (i32.mul (call $digit (i32.add (local.get $at) (i32.const 1))) (i32.const 64))
                (call $digit (i32.add (local.get $at) (i32.const 2)))))
            (call $opened
              (call $start (i32.add (local.get $at) (i32.const 3)) (local.get $size) (call $new (i32.const 64))))
            (local.set $at (i32.add (i32.add (local.get $at) (i32.const 3)) (local.get $size)))
            (br $next)))
        (if (i32.eq (local.get $step) (i32.const 100)) ;; d
          (then
            (call $dropped (call $digit (i32.add (local.get $at) (i32.const 1))))
            (local.set $at (i32.add (local.get $at) (i32.const 2)))
            (br $next)))
        (if (i32.eq (local.get $step) (i32.const 119)) ;; w
          (then (call $wait) (local.set $at (i32.add (local.get $at) (i32.const 1))) (br $next)))
        (if (i32.eq (local.get $step) (i32.const 97)) ;; a
          (then
            (loop $all (if (global.get $open) (then (call $wait) (br $all))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br $next)))
        unreachable))
    i32.const 16))
