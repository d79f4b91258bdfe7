;; Asks the model `fast` once, with the input as the reply's schema where there is one, and returns an empty text.
(module
  (import "agenthost:plugin/llm@0.1.0" "complete"
    (func $complete (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (memory (export "memory") 150)
  (global $free (mut i32) (i32.const 1024))
  (data (i32.const 64) "fast")
  (data (i32.const 128) "\00\00\00\00\90\00\00\00\01\00\00\00")
  (data (i32.const 144) "\00\00\00\00\40\00\00\00\04\00\00\00")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.get $free)
    (global.set $free (i32.and (i32.add (i32.add (global.get $free) (local.get 3)) (i32.const 15)) (i32.const -16))))
  (func (export "attack:guest/task@0.1.0#run") (param $input i32) (param $len i32) (result i32)
    (call $complete (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 128) (i32.const 1)
      (i32.const 1) (i32.const 100) (i32.gt_u (local.get $len) (i32.const 1)) (local.get $input) (local.get $len)
      (i32.const 0) (i32.const 0) (i32.const 256))
    ;; The model's error is the plugin's: `ok` with an empty text, or `err`.
    (i32.store8 (i32.const 512) (i32.load8_u (i32.const 256)))
    i32.const 512))
