// Answers each line [pattern, input, ...], JSON, with one: a 0 or 1 for each input, "refused" for
// what is no pattern, "slow" where it takes more than two seconds.
'use strict';
const vm = require('vm');
const context = vm.createContext({});
const script = new vm.Script(`{
  const regex = new RegExp(source);
  answer = inputs.map(input => regex.test(input) ? '1' : '0').join('');
}`);

require('readline').createInterface({ input: process.stdin }).on('line', line => {
  const [source, ...inputs] = JSON.parse(line);
  Object.assign(context, { source, inputs });
  let answer = 'refused';
  try {
    script.runInContext(context, { timeout: 2000 });
    answer = context.answer;
  } catch (error) {
    if (error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') answer = 'slow';
  }
  process.stdout.write(answer + '\n');
});
