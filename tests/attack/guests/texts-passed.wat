;; Passes each text of the list that its input describes to the host, and returns none.
(module
  (import "agenthost:plugin/progress@0.1.0" "report" (func $report (param i32 i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "attack:areas/task@0.1.0#run") (param $area i32) (param i32) (result i32)
    (local $at i32) (local $left i32)
    (local.set $at (i32.load (local.get $area)))
    (local.set $left (i32.load offset=4 (local.get $area)))
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $left)))
        (call $report (i32.const 0) (i32.const 0) (i32.const 0) (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $again)))
    i32.const 16))
