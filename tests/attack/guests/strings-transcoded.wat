;; Two parts pass a text of 15 MB between them, whose encoding changes on the way, before the task starts.
(component
  (component $reader
    (core module $m
      (memory (export "memory") 480)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
      (func (export "read") (param i32 i32)))
    (core instance $i (instantiate $m))
    (func (export "read") (param "text" string)
      (canon lift (core func $i "read") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))
        string-encoding=latin1+utf16)))
  (instance $reader (instantiate $reader))
  (component $writer
    (import "read" (func $read (param "text" string)))
    (core module $memory (memory (export "memory") 480))
    (core instance $memory (instantiate $memory))
    (core func $lowered (canon lower (func $read) (memory (core memory $memory "memory"))))
    (core module $m
      (import "reader" "read" (func $read (param i32 i32)))
      (func $start
        (loop $again
          (call $read (i32.const 2048) (i32.const 15000000))
          (br $again)))
      (start $start))
    (core instance (instantiate $m (with "reader" (instance (export "read" (func $lowered)))))))
  (instance (instantiate $writer (with "read" (func $reader "read"))))
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
    (func (export "run") (param i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m))
  (func $run (param "input" string) (result (result string (error string)))
    (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (instance (export "attack:guest/task@0.1.0") (export "run" (func $run))))
