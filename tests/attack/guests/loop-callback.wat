;; Yields once and loops in its callback.
(module
  (import "[export]attack:guest/task@0.1.0" "[task-return]run" (func (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "[async-lift]attack:guest/task@0.1.0#run") (param i32 i32) (result i32) i32.const 1)
  (func (export "[callback][async-lift]attack:guest/task@0.1.0#run") (param i32 i32 i32) (result i32)
    (loop $again (br $again))
    unreachable))
