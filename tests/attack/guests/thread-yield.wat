;; Gives way to others in a loop, from the middle of its run.
(module
  (import "$root" "[thread-yield]" (func $yield (result i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again (drop (call $yield)) (br $again))
    unreachable))
