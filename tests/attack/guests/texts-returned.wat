;; Returns the list of texts that its input describes: its address, its length, and texts anywhere.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:areas/task@0.1.0#run") (param $area i32) (param i32) (result i32) local.get $area))
