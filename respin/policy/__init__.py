"""The rules: what a plugin may do to a Node. Judged on the plan, on the delta and on the derived state it left."""
