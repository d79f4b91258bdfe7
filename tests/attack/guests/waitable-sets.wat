;; Makes sets of waitables and keeps them, until it is refused one.
(module
  (import "$root" "[waitable-set-new]" (func $set (result i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again (drop (call $set)) (br $again))
    unreachable))
