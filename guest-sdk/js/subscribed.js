// Which handler the messages of a subscription go to, by its number.
export const subscribed = new Map();
