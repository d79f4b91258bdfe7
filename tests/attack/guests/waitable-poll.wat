;; Looks into an empty set of waitables, for ever.
(module
  (import "$root" "[waitable-set-new]" (func $set (result i32)))
  (import "$root" "[waitable-set-poll]" (func $poll (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (local $set i32)
    (local.set $set (call $set))
    (loop $again (drop (call $poll (local.get $set) (i32.const 16))) (br $again))
    unreachable))
