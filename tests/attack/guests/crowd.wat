;; Starts a sub-task for each character of its input, all at once, and waits for all of them.
(module
  (import "attack:neighbour/task@0.1.0" "[async-lower]run" (func $start (param i32 i32 i32) (result i32)))
  (import "$root" "[waitable-set-new]" (func $set (result i32)))
  (import "$root" "[waitable-join]" (func $join (param i32 i32)))
  (import "$root" "[waitable-set-wait]" (func $wait (param i32 i32) (result i32)))
  (import "$root" "[subtask-drop]" (func $drop (param i32)))
  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.get $free)
    (global.set $free (i32.and (i32.add (i32.add (global.get $free) (local.get 3)) (i32.const 15)) (i32.const -16))))
  (func (export "attack:guest/task@0.1.0#run") (param $at i32) (param $left i32) (result i32)
    (local $set i32) (local $pending i32) (local $call i32)
    (local.set $set (call $set))
    (loop $again
      (local.set $call (call $start (local.get $at) (i32.const 1) (i32.const 65536)))
      (if (i32.ne (local.get $call) (i32.const 2))
        (then
          (call $join (i32.shr_u (local.get $call) (i32.const 4)) (local.get $set))
          (local.set $pending (i32.add (local.get $pending) (i32.const 1)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (loop $next
      (drop (call $wait (local.get $set) (i32.const 32)))
      ;; A sub-task may have started only; it is done when its state is `returned`.
      (br_if $next (i32.ne (i32.load (i32.const 36)) (i32.const 2)))
      (call $join (i32.load (i32.const 32)) (i32.const 0))
      (call $drop (i32.load (i32.const 32)))
      (br_if $next (local.tee $pending (i32.sub (local.get $pending) (i32.const 1)))))
    i32.const 16))
