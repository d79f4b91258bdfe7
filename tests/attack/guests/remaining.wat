;; Asks what is left, for ever.
(module
  (import "agenthost:plugin/llm@0.1.0" "remaining" (func $remaining (param i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again (call $remaining (i32.const 16)) (br $again))
    unreachable))
