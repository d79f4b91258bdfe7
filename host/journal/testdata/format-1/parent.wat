(module
  (import "demo:ask/task@0.1.0" "run" (func $sub (param i32 i32 i32)))
  (import "agenthost:plugin/llm@0.1.0" "complete"
    (func $complete (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "agenthost:plugin/llm@0.1.0" "remaining" (func $remaining (param i32)))
  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 4096))
  (data (i32.const 64) "fast")
  (data (i32.const 80) "forbidden")
  (data (i32.const 96) "{\22type\22:\22integer\22}")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.get $free)
    (global.set $free (i32.and (i32.add (i32.add (global.get $free) (local.get 3)) (i32.const 15)) (i32.const -16))))
  (func (export "demo:parent/task@0.1.0#run") (param $input i32) (param $len i32) (result i32)
    ;; A message (128) with one part (144): the input.
    (i32.store (i32.const 132) (i32.const 144))
    (i32.store (i32.const 136) (i32.const 1))
    (i32.store (i32.const 148) (local.get $input))
    (i32.store (i32.const 152) (local.get $len))
    ;; A sub-task with the same input.
    (call $sub (local.get $input) (local.get $len) (i32.const 512))
    (call $remaining (i32.const 640))
    ;; A call of a model that is not granted.
    (call $complete (i32.const 80) (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 128) (i32.const 1)
      (i32.const 1) (i32.const 100) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1024))
    ;; A call with a schema: an integer.
    (call $complete (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 128) (i32.const 1)
      (i32.const 1) (i32.const 100) (i32.const 1) (i32.const 96) (i32.const 18) (i32.const 0) (i32.const 0) (i32.const 256))
    ;; The text of the reply, or an error without words.
    (i32.store (i32.const 768) (i32.const 1))
    (if (i32.eqz (i32.load8_u (i32.const 256)))
      (then
        (i32.store (i32.const 768) (i32.const 0))
        (i32.store (i32.const 772) (i32.load offset=4 (i32.load (i32.const 264))))
        (i32.store (i32.const 776) (i32.load offset=8 (i32.load (i32.const 264))))))
    i32.const 768))
