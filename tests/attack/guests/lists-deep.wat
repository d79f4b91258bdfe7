;; Returns lists in lists, each with 30 times the same list.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:deep/task@0.1.0#run") (param i32 i32) (result i32)
    (local $at i32) (local $level i32)
    (loop $next
      (local.set $at (i32.const 0))
      (loop $again
        (i32.store (i32.add (i32.mul (local.get $level) (i32.const 256)) (i32.add (local.get $at) (i32.const 1024)))
          (i32.add (i32.mul (local.get $level) (i32.const 256)) (i32.const 1280)))
        (i32.store (i32.add (i32.mul (local.get $level) (i32.const 256)) (i32.add (local.get $at) (i32.const 1028)))
          (i32.const 30))
        (br_if $again (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 240))))
      (br_if $next (i32.lt_u (local.tee $level (i32.add (local.get $level) (i32.const 1))) (i32.const 16))))
    (i32.store (i32.const 16) (i32.const 1024))
    (i32.store (i32.const 20) (i32.const 30))
    i32.const 16))
