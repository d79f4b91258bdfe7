;; Asks for its environment, for ever.
(module
  (import "wasi:cli/environment@0.2.0" "get-environment" (func $get (param i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again (call $get (i32.const 16)) (br $again))
    unreachable))
