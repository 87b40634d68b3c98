"""`lpm_block.pyx` has nothing public: `lpm.PrefixTable.build` calls it."""
