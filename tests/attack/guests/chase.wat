;; Follows pointers through 32 MiB: each instruction waits for memory.
(module
  (memory (export "memory") 900)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (local $k i32) (local $p i32)
    ;; Half a million nodes, one for each cache line, in one circle that jumps about.
    (loop $link
      (i32.store
        (i32.add (i32.const 1048576) (i32.shl (local.get $k) (i32.const 6)))
        (i32.add (i32.const 1048576) (i32.shl
          (i32.and (i32.add (i32.mul (local.get $k) (i32.const 1664525)) (i32.const 1013904223)) (i32.const 524287))
          (i32.const 6))))
      (br_if $link (i32.lt_u (local.tee $k (i32.add (local.get $k) (i32.const 1))) (i32.const 524288))))
    (local.set $p (i32.const 1048576))
    (loop $again
      (local.set $p
        (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load
        (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load
        (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load
          (local.get $p))))))))))))))))))))))))))
      (br $again))
    unreachable))
