;; Takes square roots of square roots: each instruction waits for the one before.
(module
  (memory (export "memory") 20)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:guest/task@0.1.0#run") (param i32 i32) (result i32)
    (local $x f64)
    (local.set $x (f64.const 3.7))
    (loop $again
      (local.set $x
        (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt
        (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt
        (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt (f64.sqrt
          (local.get $x))))))))))))))))))))))))))
      (br $again))
    unreachable))
