# Wing D: the lead is writing this program in /tmp/wt-lead (branch wing-lead) since 21:30. Leave it out; finish the load part, threads and tests, commit, and report. Do not commit this note.
