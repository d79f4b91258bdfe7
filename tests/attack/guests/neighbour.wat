;; A sub-task that does what the first character of its input says: good work, or what starves its neighbours.
(module
  (import "agenthost:plugin/llm@0.1.0" "complete"
    (func $complete (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "agenthost:plugin/llm@0.1.0" "remaining" (func $remaining (param i32)))
  (import "agenthost:plugin/progress@0.1.0" "report" (func $report (param i32 i32 i32 i32 i32)))
  (import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))
  (memory (export "memory") 20)
  (data (i32.const 64) "fast")
  (data (i32.const 128) "\00\00\00\00\90\00\00\00\01\00\00\00")
  (data (i32.const 144) "\00\00\00\00\40\00\00\00\04\00\00\00")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func $ask
    (call $complete (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 128) (i32.const 1)
      (i32.const 1) (i32.const 100) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256)))
  (func (export "attack:neighbour/task@0.1.0#run") (param $at i32) (param i32) (result i32)
    (local $mode i32) (local $n i32)
    (local.set $mode (i32.load8_u (local.get $at)))
    ;; g: ten calls with a little computing between them.
    (if (i32.eq (local.get $mode) (i32.const 0x67))
      (then
        (loop $calls
          (call $ask)
          (br_if $calls (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 10))))))
    ;; m: holds 60 MiB while a model takes its time.
    (if (i32.eq (local.get $mode) (i32.const 0x6d))
      (then
        (if (i32.eq (memory.grow (i32.const 940)) (i32.const -1)) (then unreachable))
        (memory.fill (i32.const 65536) (i32.const 1) (i32.const 62849024))
        (call $ask)))
    ;; r: random bytes for ever. p: progress with 1 MiB for ever. l: what is left, for ever.
    (if (i32.eq (local.get $mode) (i32.const 0x72))
      (then (loop $again (call $random (i64.const 65536) (i32.const 16)) (br $again))))
    (if (i32.eq (local.get $mode) (i32.const 0x70))
      (then (loop $again
        (call $report (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 2048) (i32.const 1048576)) (br $again))))
    (if (i32.eq (local.get $mode) (i32.const 0x6c))
      (then (loop $again (call $remaining (i32.const 512)) (br $again))))
    ;; s: crashes if any of 4 MiB that it was just given is not zero, and leaves them full.
    (if (i32.eq (local.get $mode) (i32.const 0x73))
      (then
        (local.set $n (i32.mul (memory.grow (i32.const 64)) (i32.const 65536)))
        (loop $look
          (if (i64.ne (i64.load (local.get $n)) (i64.const 0)) (then unreachable))
          (i64.store (local.get $n) (i64.const 0x4352414e41592d2d))
          (br_if $look (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 8)))
            (i32.mul (memory.size) (i32.const 65536)))))))
    i32.const 16))
