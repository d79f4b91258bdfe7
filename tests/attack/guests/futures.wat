;; Makes futures and keeps both ends, until it is refused one.
(component
  (core module $memory-module
    (memory (export "memory") 20)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
  (core instance $memory-of (instantiate $memory-module))
  (alias core export $memory-of "memory" (core memory $memory))
  (type $future (future u8))
  (core func $new (canon future.new $future))
  (core module $m
    (import "host" "new" (func $new (result i64)))
    (func (export "run") (param i32 i32) (result i32)
      (loop $again (drop (call $new)) (br $again))
      unreachable))
  (core instance $i (instantiate $m
    (with "host" (instance (export "new" (func $new))))))
  (alias core export $i "run" (core func $core-run))
  (func $run (param "input" string) (result (result string (error string)))
    (canon lift (core func $core-run) (memory $memory) (realloc (core func $memory-of "realloc"))))
  (instance $task (export "run" (func $run)))
  (export "attack:guest/task@0.1.0" (instance $task)))
