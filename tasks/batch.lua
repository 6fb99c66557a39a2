-- batch gives a batch's number, and makes the batch where its name is new.
-- ARGV[1] name. Returns the number, from 1.
return batch_number(ARGV[1])
