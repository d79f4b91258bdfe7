;; Reports its progress with a message of 7 MiB, for ever.
(module
  (import "agenthost:plugin/progress@0.1.0" "report" (func $report (param i32 i32 i32 i32 i32)))
  (memory (export "memory") 120)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again (call $report (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 7340032)) (br $again))
    unreachable))
