;; Makes a reference to a function, again and again: each takes a call into the engine.
(module
  (memory (export "memory") 20)
  (elem declare func 0)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (loop $again
      (drop (ref.func 0)) (drop (ref.func 0)) (drop (ref.func 0)) (drop (ref.func 0))
      (drop (ref.func 0)) (drop (ref.func 0)) (drop (ref.func 0)) (drop (ref.func 0))
      (drop (ref.func 0)) (drop (ref.func 0)) (drop (ref.func 0)) (drop (ref.func 0))
      (drop (ref.func 0)) (drop (ref.func 0)) (drop (ref.func 0)) (drop (ref.func 0))
      (br $again))
    unreachable))
