;; Starts a model call after the other and waits for none.
(module
  (import "agenthost:plugin/llm@0.1.0" "[async-lower]complete" (func $complete (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 64) "fast")
  (data (i32.const 128) "\00\00\00\00\90\00\00\00\01\00\00\00")
  (data (i32.const 144) "\00\00\00\00\40\00\00\00\04\00\00\00")
  ;; The request: model, no system, one message, no maximum, no schema, no options.
  (data (i32.const 160) "\40\00\00\00\04\00\00\00")
  (data (i32.const 180) "\80\00\00\00\01\00\00\00")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again (drop (call $complete (i32.const 160) (i32.const 512))) (br $again))
    unreachable))
