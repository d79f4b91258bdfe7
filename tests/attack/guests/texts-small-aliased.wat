;; Returns 500,000 texts that are all the same 16 bytes.
(module
  (memory (export "memory") 70)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:texts/task@0.1.0#run") (param i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.const 1024))
    (loop $again
      (i32.store (local.get $at) (i32.const 0))
      (i32.store offset=4 (local.get $at) (i32.const 16))
      (br_if $again (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 4001024))))
    (i32.store (i32.const 16) (i32.const 1024))
    (i32.store (i32.const 20) (i32.const 500000))
    i32.const 16))
