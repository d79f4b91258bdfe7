;; Sends 7 MiB of an image to a model that it may not use, one call after the other, for ever.
(module
  (import "agenthost:plugin/llm@0.1.0" "complete"
    (func $complete (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (memory (export "memory") 130)
  (data (i32.const 64) "nope")
  (data (i32.const 96) "image/png")
  ;; One message of the user with one medium.
  (data (i32.const 128) "\00\00\00\00\90\00\00\00\01\00\00\00")
  (data (i32.const 144) "\01\00\00\00\60\00\00\00\09\00\00\00\00\04\00\00\00\00\70\00")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 512)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (memory.fill (i32.const 1024) (i32.const 255) (i32.const 7340032))
    (loop $again
      (call $complete (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 128) (i32.const 1)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256))
      (br $again))
    unreachable))
