;; Begins to read a future and cancels that at its other end.
(component
  (core module $memory-module
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
  (core instance $memory-of (instantiate $memory-module))
  (alias core export $memory-of "memory" (core memory $memory))
  (type $future (future u8))
  (core func $new (canon future.new $future))
  (core func $read (canon future.read $future async (memory $memory)))
  (core func $cancel (canon future.cancel-write $future))
  (core module $m
    (import "host" "new" (func $new (result i64)))
    (import "host" "read" (func $read (param i32 i32) (result i32)))
    (import "host" "cancel" (func $cancel (param i32) (result i32)))
    (func (export "run") (param i32 i32) (result i32)
      (local $ends i64)
      (local.set $ends (call $new))
      (drop (call $read (i32.wrap_i64 (local.get $ends)) (i32.const 16)))
      (drop (call $cancel (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32)))))
      unreachable))
  (core instance $i (instantiate $m
    (with "host" (instance (export "new" (func $new)) (export "read" (func $read)) (export "cancel" (func $cancel))))))
  (alias core export $i "run" (core func $core-run))
  (func $run async (param "input" string) (result (result string (error string)))
    (canon lift (core func $core-run) (memory $memory) (realloc (core func $memory-of "realloc"))))
  (instance $task (export "run" (func $run)))
  (export "attack:guest/task@0.1.0" (instance $task)))
