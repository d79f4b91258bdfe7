;; Grows its memory by a page at a time and touches it, for ever.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (local $at i32)
    (loop $again
      (local.set $at (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)))
      (if (i32.ge_s (local.get $at) (i32.const 0)) (then (i32.store (local.get $at) (i32.const 1))))
      (br $again))
    unreachable))
