;; Makes a stream, begins to write 1 MiB into it and drops both ends, for ever.
(component
  (core module $memory-module
    (memory (export "memory") 20)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
  (core instance $memory-of (instantiate $memory-module))
  (alias core export $memory-of "memory" (core memory $memory))
  (type $stream (stream u8))
  (core func $new (canon stream.new $stream))
  (core func $write (canon stream.write $stream async (memory $memory)))
  (core func $cancel (canon stream.cancel-write $stream))
  (core func $drop-writable (canon stream.drop-writable $stream))
  (core func $drop-readable (canon stream.drop-readable $stream))
  (core module $m
    (import "host" "new" (func $new (result i64)))
    (import "host" "write" (func $write (param i32 i32 i32) (result i32)))
    (import "host" "cancel" (func $cancel (param i32) (result i32)))
    (import "host" "drop-writable" (func $drop-writable (param i32)))
    (import "host" "drop-readable" (func $drop-readable (param i32)))
    (func (export "run") (param i32 i32) (result i32)
      (local $ends i64) (local $writable i32)
      (loop $again
        (local.set $ends (call $new))
        (local.set $writable (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
        (drop (call $write (local.get $writable) (i32.const 2048) (i32.const 1048576)))
        (drop (call $cancel (local.get $writable)))
        (call $drop-writable (local.get $writable))
        (call $drop-readable (i32.wrap_i64 (local.get $ends)))
        (br $again))
      unreachable))
  (core instance $i (instantiate $m
    (with "host" (instance
      (export "new" (func $new)) (export "write" (func $write)) (export "cancel" (func $cancel))
      (export "drop-writable" (func $drop-writable)) (export "drop-readable" (func $drop-readable))))))
  (alias core export $i "run" (core func $core-run))
  (func $run async (param "input" string) (result (result string (error string)))
    (canon lift (core func $core-run) (memory $memory) (realloc (core func $memory-of "realloc"))))
  (instance $task (export "run" (func $run)))
  (export "attack:guest/task@0.1.0" (instance $task)))
