;; Makes resources of its own and keeps them, until it is refused one.
(component
  (type $r (resource (rep i32)))
  (core func $new (canon resource.new $r))
  (core module $m
    (import "host" "new" (func $new (param i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
    (func (export "run") (param i32 i32) (result i32)
      (loop $again (drop (call $new (i32.const 7))) (br $again))
      unreachable))
  (core instance $i (instantiate $m (with "host" (instance (export "new" (func $new))))))
  (func $run (param "input" string) (result (result string (error string)))
    (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (instance $task (export "run" (func $run)))
  (export "attack:guest/task@0.1.0" (instance $task)))
